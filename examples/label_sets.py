"""Predict sets of labels: between one and ``max_labels`` labels per row, and how many."""

from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from sdlgm import SDLGMClassifier

X, Y = make_multilabel_classification(
    n_samples=600, n_features=20, n_classes=10, n_labels=2, allow_unlabeled=False, random_state=0
)
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, test_size=0.25, random_state=0)

classifier = SDLGMClassifier(members=5, epochs=30, random_state=0)
classifier.fit(X_train, Y_train)

predicted = classifier.predict(X_test)
print(f"micro-F1: {f1_score(Y_test, predicted, average='micro'):.3f}")
print(f"labels per row: {predicted.sum(1).min()} to {predicted.sum(1).max()}")
print(f"largest number of labels in training: {classifier.max_labels_}")

probabilities = classifier.predict_proba(X_test[:1])[0]
print("probability of each label:", probabilities.round(2))
print(f"expected number of labels: {classifier.predict_counts(X_test[:1])[0]:.1f}")

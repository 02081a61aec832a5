"""Search by sparse codes: nearest neighbours and a classifier in a scikit-learn pipeline."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline

from sdlgm import SDLGMTransformer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# At most 8 of 64 components per image. A code is a row of small counts.
transformer = SDLGMTransformer(n_components=64, budget=8, random_state=0)
codes = transformer.fit_transform(X_train)
print(f"codes: {codes.shape}, {(codes > 0).sum(1).mean():.1f} nonzero counts per image")

index = NearestNeighbors(n_neighbors=5).fit(codes)
_, neighbours = index.kneighbors(transformer.transform(X_test[:1]))
print(f"digit {y_test[0]}, nearest neighbours: {y_train[neighbours[0]]}")

classifier = make_pipeline(transformer, KNeighborsClassifier(5))
print(f"accuracy with codes:  {classifier.fit(X_train, y_train).score(X_test, y_test):.3f}")
pixels = KNeighborsClassifier(5).fit(X_train, y_train)
print(f"accuracy with pixels: {pixels.score(X_test, y_test):.3f}")

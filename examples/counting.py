"""Count digits: an image has five columns, each of which is empty or holds a digit."""

from sdlgm import SDLGMCounter
from sdlgm.data import digit_columns

images, counts = digit_columns(1000, split="train", seed=0, source="mnist-5k")
test_images, test_counts = digit_columns(200, split="test", seed=0, source="mnist-5k")
print(f"images: {images.shape}, counts of the digits 0 to 9: {counts.shape}")

# A convolutional network for each column; the counts of the columns are added.
counter = SDLGMCounter("columns", epochs=6, random_state=0)
counter.fit(images, counts)

predicted = counter.predict(test_images)
expected = counter.predict_mean(test_images)
print(f"images with all counts correct: {(predicted == test_counts).all(1).mean():.0%}")
print(f"mean squared error of the expected counts: {((expected - test_counts) ** 2).mean():.4f}")
print("first image:", predicted[0], "true counts:", test_counts[0])

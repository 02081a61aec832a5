"""The discrete bound on MNIST."""

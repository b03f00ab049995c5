"""Data sets: scikit-learn's digits, MNIST, Fashion-MNIST and CIFAR-10."""

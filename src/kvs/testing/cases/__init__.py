"""The cases by the promise they hold: one class each, which ``kvs.testing.contract`` puts together."""

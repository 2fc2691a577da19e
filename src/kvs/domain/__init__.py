"""The pure core: values, the transaction stack and the errors. No I/O, no clock, no logging, no randomness."""

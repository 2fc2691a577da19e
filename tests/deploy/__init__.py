"""What deploy/ has for operators: that it is right, as far as that can be tried without their machines."""

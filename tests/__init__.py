"""The tests: unit, property, contract and integration."""

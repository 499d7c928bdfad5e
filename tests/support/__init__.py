"""What tests build on: real servers, builders, clocks."""

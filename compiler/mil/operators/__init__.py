"""What each operator of MIL computes, a file for each family."""

"""The whole stage on a simulated machine: any stack, any fault, its own clock."""

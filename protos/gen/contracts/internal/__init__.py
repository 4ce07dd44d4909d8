"""What only our services say to each other."""

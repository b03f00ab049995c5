"""What sums become: thresholds and scalings."""

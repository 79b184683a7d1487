"""What the systems share: rotary tables, attention, towers, flow matching, guidance, conditions, random streams."""

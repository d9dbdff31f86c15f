"""What a train step needs in memory, and what would fit."""

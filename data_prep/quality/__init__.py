"""What of some tiers is worth training on: repetitions, unfit rows and what evaluations ask are left out."""

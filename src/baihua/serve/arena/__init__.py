"""Which of two models answers better? Blind answers side by side, votes, ratings."""

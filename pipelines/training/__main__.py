"""`python -m pipelines.training`, which is also what `accelerate launch -m` starts."""

from pipelines.training.cli import train_app

if __name__ == "__main__":
    train_app()

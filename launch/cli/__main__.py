"""`python -m launch.cli`: what a cluster's job runs."""

from launch.cli.app import main

if __name__ == "__main__":
    main()

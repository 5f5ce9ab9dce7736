"""What people look at and press: views of runs that know events and commands, not who carries them out."""

"""Claims records in Postgres, asks a detector about their images, and commits each verdict exactly once."""

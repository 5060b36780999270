"""THE table of models is filled below: name -> class."""

"""Training and testing the recurrent part of UniPose-LSTM on maps that an encoder made once."""

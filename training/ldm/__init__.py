"""ECG-LDM: its autoencoder, its denoiser, and the flow map that makes it quick."""

package pki

// adopt does nothing: rights are inherited from the folder there.
func adopt(string, string) error { return nil }

package main

// privateFiles does nothing here: files have the rights of their folder.
func privateFiles() {}

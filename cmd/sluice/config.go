package main

import (
	"errors"
	"io/fs"
	"os"
)

// configFlag names the config of a command, as a flag or as its argument.
type configFlag struct {
	Config string `help:"The config file or folder (default: /etc/sluice/sluice.yaml, else ./sluice.yaml)." short:"c" placeholder:"FILE"`
	File   string `arg:"" optional:"" name:"file" help:"The same as --config."`
}

// Validate refuses two configs.
func (f *configFlag) Validate() error {
	if f.Config != "" && f.File != "" {
		return errors.New("the config is named twice: give --config or the file, not both")
	}
	return nil
}

// path returns the config that is meant: the one named, else the system's, else
// the one in this folder.
func (f *configFlag) path() string {
	const system, local = "/etc/sluice/sluice.yaml", "sluice.yaml"
	if f.Config != "" {
		return f.Config
	}
	if f.File != "" {
		return f.File
	}
	if _, err := os.Stat(system); errors.Is(err, fs.ErrNotExist) {
		return local
	}
	return system
}

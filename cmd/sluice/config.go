package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"

	"github.com/sluice-edge/sluice/config"
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

// Where a config is that nobody has named.
const systemConfig, localConfig = "/etc/sluice/sluice.yaml", "sluice.yaml"

// load reads and checks the config that is meant: the one named, else the
// system's, else the one in this folder. It returns which that was, too.
func (f *configFlag) load() (path string, p *plan, faults config.Faults) {
	path = f.path(systemConfig)
	if path == "" {
		return localConfig, &plan{}, config.Faults{{
			Position: config.Position{File: localConfig, Line: 1, Column: 1},
			Problem:  "there is no config: neither " + systemConfig + " nor ./" + localConfig + " is there",
			Remedy:   "write one there, or name another file with --config",
		}}
	}
	p, faults = loadPlan(path, driverKinds, uplinkKinds)
	return path, p, faults
}

// path returns "" if no config is named and none is there.
func (f *configFlag) path(system string) string {
	if named := cmp.Or(f.Config, f.File); named != "" {
		return named
	}
	for _, path := range []string{system, localConfig} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	return ""
}

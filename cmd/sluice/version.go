package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "dev"

// versionCmd prints what this binary is.
type versionCmd struct {
	JSON bool `help:"Print one JSON document."`
}

// buildInfo is what version prints.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

// Run prints the version.
func (v *versionCmd) Run(c *console) error {
	b := thisBuild()
	if v.JSON {
		return json.NewEncoder(c.Out).Encode(b)
	}
	_, err := fmt.Fprintf(c.Out, "sluice %s %s %s %s\n", b.Version, b.Commit, b.Go, b.Platform)
	return err
}

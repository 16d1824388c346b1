// Command bench measures Sluice on real parts against the bare limit in the
// same run: each line gives a ratio to what the libraries alone do with the
// same work on the same machine, since a rate by itself says more about the
// machine. It builds the gateway's binary, starts Modbus servers and the broker
// in processes of their own, and writes bench/results.json.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// measure is one line of performance.md.
type measure struct {
	id   string
	name string
	run  func(ctx context.Context, b *bed) (result, error)
}

var measures = []measure{
	{"P1", "end to end, 50 machines", endToEnd},
	{"P2", "commit", commitPath},
	{"P2B", "commit beside a backlog", commitOnBacklog},
	{"P3", "Modbus polling, 10 x 1000 registers", modbusPolling},
	{"P4", "OPC UA subscription, 1000 x 100 ms", opcuaSubscription},
	{"P5", "register to subscriber", latency},
	{"P6", "drain after an outage", drain},
	{"P7", "memory", memoryUse},
	{"P8", "start with a backlog after SIGKILL", startTime},
	{"P9", "50 good devices beside bad ones", badNeighbours},
	{"P10", "Prodsmart caught up after an outage", prodsmartOutage},
	{"P11", "binary size", binarySize},
	{"P12", "the page Pieces over a million counts", pieces},
	{"R1", "REST, 50 ms an answer, one event a request", restSingle},
	{"R2", "REST, 50 ms an answer, lists", restBatched},
	{"R3", "REST, a byte a second", restByteASecond},
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := playRole(role); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", role+":", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("id", "", "run only this line, for example P2")
	full := flag.Bool("full", false, "full length instead of at most 50 s a line")
	out := flag.String("out", filepath.Join("bench", "results.json"), "where the results go; empty for nowhere")
	flag.Parse()
	if err := untilSignal(func(ctx context.Context) error {
		return benchAll(ctx, strings.ToUpper(*only), *full, *out)
	}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func untilSignal(work func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return work(ctx)
}

// document is bench/results.json.
type document struct {
	Time     time.Time `json:"time"`
	Platform string    `json:"platform"`
	Go       string    `json:"go"`
	Cores    int       `json:"cores"`
	Full     bool      `json:"full"`
	Results  []result  `json:"results"`
}

// benchAll runs the lines one after the other. A target that is missed is
// printed, not an error: only a line that could not be measured is.
func benchAll(ctx context.Context, only string, full bool, out string) (err error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bed{dir: dir, full: full}
	d := document{Time: time.Now().UTC(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Cores: runtime.NumCPU(), Full: full}
	known := false
	for _, m := range measures {
		if only != "" && only != m.id {
			continue
		}
		known = true
		begin := time.Now()
		r, err := m.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
		r.ID, r.Name, r.Time = m.id, m.name, begin.UTC()
		r.Seconds = time.Since(begin).Seconds()
		fmt.Println(r.line())
		d.Results = append(d.Results, r)
	}
	if !known {
		return fmt.Errorf("there is no line %q", only)
	}
	if out == "" {
		return nil
	}
	if only != "" {
		if d.Results, err = beside(out, d.Results); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// beside puts results among those of other lines that out holds, in the order of
// the lines. Each result says when it was measured.
func beside(out string, results []result) ([]result, error) {
	var before document
	text, err := os.ReadFile(out)
	if errors.Is(err, fs.ErrNotExist) {
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", out, err)
	}
	var all []result
	for _, m := range measures {
		is := func(r result) bool { return r.ID == m.id }
		if i := slices.IndexFunc(results, is); i >= 0 {
			all = append(all, results[i])
		} else if i := slices.IndexFunc(before.Results, is); i >= 0 {
			all = append(all, before.Results[i])
		}
	}
	return all, nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// roleVariable tells a process of this program which part it plays.
const roleVariable = "SLUICE_BENCH_ROLE"

// bed is what the lines share: a folder, and the gateway's binary once built.
type bed struct {
	dir    string
	full   bool
	binary string
}

// length is how long a line measures: short unless the full run is asked for.
func (b *bed) length(short, full time.Duration) time.Duration {
	if b.full {
		return full
	}
	return short
}

// sluice builds the stripped binary once and returns its path.
func (b *bed) sluice(ctx context.Context) (string, error) {
	if b.binary != "" {
		return b.binary, nil
	}
	path := filepath.Join(b.dir, "sluice")
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/sluice").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	b.binary = path
	return path, nil
}

// process is a running part.
type process struct {
	cmd *exec.Cmd
	out *bufio.Reader
	in  io.WriteCloser
}

// startRole starts this program as another process that plays a role; its
// argument and its answers are lines of JSON.
func startRole(role string, argument any) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, json.NewEncoder(p.in).Encode(argument)
}

// answer reads the role's next answer.
func (p *process) answer(into any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the other process ended: %w", err)
	}
	return json.Unmarshal(line, into)
}

// end closes the role's stdin, which ends it, and waits.
func (p *process) end() error {
	_ = p.in.Close()
	return p.cmd.Wait()
}

// cpu returns the user and system time that a process has used, from
// /proc/PID/stat, in steps of 10 ms.
func cpu(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has another form than expected")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// ownCPU returns what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for RUSAGE_SELF
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// broker is the receiver's broker in a process of its own.
type broker struct {
	addr string
	// name is "mosquitto", or what replaces it.
	name string
	stop func() error
}

// startBroker starts mosquitto where it is installed, else the embedded broker.
func startBroker(ctx context.Context, dir string) (*broker, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if _, statErr := os.Stat("/usr/sbin/mosquitto"); statErr != nil {
			return startEmbeddedBroker()
		}
		path = "/usr/sbin/mosquitto"
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(dir, "mosquitto-"+port+".conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\nmax_queued_messages 0\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "-c", config)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &broker{addr: addr, name: "mosquitto", stop: func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return cmd.Wait()
	}}
	return b, awaitPort(ctx, addr)
}

// startEmbeddedBroker starts the broker of the demo in another process.
func startEmbeddedBroker() (*broker, error) {
	p, err := startRole("broker", struct{}{})
	if err != nil {
		return nil, err
	}
	b := &broker{name: "embedded broker (mosquitto is not installed)", stop: p.end}
	return b, p.answer(&b.addr)
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitPort(ctx context.Context, addr string) error {
	return await(ctx, 10*time.Second, "nothing listens on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// await polls until done.
func await(ctx context.Context, d time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s after %v", what, d)
		case <-ticker.C:
		}
	}
	return nil
}

// gateway is the built binary at work.
type gateway struct {
	cmd *exec.Cmd
	url string
	log *os.File
	// took is how long it took until it was ready.
	took time.Duration
}

// startGateway runs the binary with a config whose page listens on httpAddr.
func (b *bed) startGateway(ctx context.Context, configText, httpAddr string) (*gateway, error) {
	binary, err := b.sluice(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "gateway-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "sluice.yaml")
	text := strings.ReplaceAll(configText, "{{dir}}", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	g := &gateway{cmd: exec.Command(binary, "run", "--config", config), url: "http://" + httpAddr, log: logFile}
	g.cmd.Stdout, g.cmd.Stderr = logFile, logFile
	begin := time.Now()
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	err = await(ctx, 20*time.Second, "the gateway is not ready", func() bool {
		r, err := http.Get(g.url + "/readyz") //nolint:noctx // bounded by await
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	if err != nil {
		text, _ := os.ReadFile(logFile.Name())
		_ = g.stop()
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	g.took = time.Since(begin)
	return g, nil
}

// stop ends the gateway in order.
func (g *gateway) stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	err := g.cmd.Wait()
	return errors.Join(err, g.log.Close())
}

// metric returns the sum of a metric's samples on the gateway's /metrics.
func (g *gateway) metric(name string) (float64, error) {
	all, err := g.scrape()
	if err != nil {
		return 0, err
	}
	return all.sum(name)
}

// series holds the samples of one scrape by name and labels, as they are
// written: `sluice_device_reads_total{device="plc-1"}`.
type series map[string]float64

// scrape reads all samples of the gateway's /metrics at one time.
func (g *gateway) scrape() (series, error) {
	r, err := http.Get(g.url + "/metrics") //nolint:noctx // the gateway is ours and local
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }() // read only: nothing to lose
	all := series{}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		line := lines.Text()
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return nil, err
		}
		all[line[:end]] = v
	}
	return all, lines.Err()
}

// sum adds up the samples of one metric.
func (s series) sum(name string) (float64, error) {
	sum, found := 0.0, false
	for key, v := range s {
		if rest, ok := strings.CutPrefix(key, name); ok && (rest == "" || rest[0] == '{') {
			sum, found = sum+v, true
		}
	}
	if !found {
		return 0, fmt.Errorf("/metrics has no %s", name)
	}
	return sum, nil
}

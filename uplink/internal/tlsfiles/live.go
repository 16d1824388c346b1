package tlsfiles

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Live are certificate files that are read again when they have changed, so that
// they can be renewed while the gateway runs. Its methods may be called from any
// goroutine.
type Live struct {
	files Files
	host  string

	mu      sync.Mutex
	config  *tls.Config
	stamps  []stamp
	problem error
}

// stamp is how a file looked when it was read.
type stamp struct {
	size     int64
	modified time.Time
}

// Live reads the files and returns them for a client of host; its errors are
// those of Load.
func (f Files) Live(host string) (*Live, error) {
	l := &Live{files: f, host: host, stamps: f.stamps()}
	var err error
	l.config, err = f.Load(host)
	return l, err
}

// Config returns the settings by the files as they are now. Where they have
// changed and cannot be used, as while somebody copies them, it returns the last
// good ones, and why; they are read again at the next call. It blocks on small
// reads.
func (l *Live) Config() (*tls.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.files.stamps()
	changed := l.problem != nil
	for i := range now {
		changed = changed || now[i] != l.stamps[i]
	}
	if !changed {
		return l.config, nil
	}
	config, err := l.files.Load(l.host)
	if err != nil {
		l.problem = fmt.Errorf("the certificate files have changed and cannot be used, so the ones before are: %w", err)
		return l.config, l.problem
	}
	l.config, l.stamps, l.problem = config, now, nil
	return l.config, nil
}

// stamps returns how the files look now; one that is not there looks like nothing.
func (f Files) stamps() []stamp {
	all := make([]stamp, 3)
	for i, name := range []string{string(f.CA), string(f.Cert), string(f.Key)} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.Size(), info.ModTime()}
		} else if !errors.Is(err, os.ErrNotExist) {
			all[i] = stamp{size: -1}
		}
	}
	return all
}

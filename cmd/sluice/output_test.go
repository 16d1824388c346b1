package main

import (
	"bytes"
	"sync"
)

// lockedOutput is what commands and processes print, read while they run.
type lockedOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *lockedOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *lockedOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail is the end of it, for a failure's words.
func (o *lockedOutput) tail() string {
	out := o.String()
	return out[max(0, len(out)-6000):]
}

package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"
)

// crashFile is where the runtime writes what it says of a panic that ends the
// process. Badger panics on some damaged blocks in goroutines of its own (its
// merges), where nobody can recover it, and again at every start.
const crashFile = "crash.log"

// badgerFrame stands in each line of a stack that is Badger's.
var badgerFrame = []byte("github.com/dgraph-io/badger/")

// NoteCrashes makes the runtime write the panic that ends this process also to a
// file beside the store in path, where the next Open finds it. It holds for the
// process; the latest call counts. Call it before Open, from one goroutine.
func NoteCrashes(path string) error {
	fail := func(err error) error {
		return fmt.Errorf("buffer: note crashes beside the store: %w: a damaged table that ends the process is not named at the next start", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	f, err := os.OpenFile(filepath.Join(path, crashFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	// The runtime keeps a descriptor of its own.
	if err := errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// afterCrash reads every table where the process ended by a panic of Badger's:
// the next merge would end it again, and a stack names no file. What it found
// sound is not read again.
func (o *Options) afterCrash(ctx context.Context, log *zap.Logger) error {
	name := filepath.Join(o.Path, crashFile)
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("buffer: open %s: %w: give the gateway's user the right to read it", name, err)
	}
	if len(text) == 0 {
		return nil
	}
	if bytes.Contains(text, badgerFrame) {
		log.Warn("the process ended by a panic within the store: every file of it is read", zap.String("file", name))
		check, err := o.check(ctx)
		if err != nil {
			return err
		}
		for _, f := range check.Files {
			if f.Problem != "" || f.Damaged > 0 {
				at := filepath.Join(check.Path, f.Name)
				if f.Name == formatName {
					at = check.Path + ": " + formatName
				}
				return fmt.Errorf("buffer: open %s: %w: %s; it has ended the process (%s has the words): %s", at, errDamaged, f.problem(), crashFile, remedyRepair)
			}
		}
	}
	log.Error("the process ended by a panic; please report it", zap.ByteString("panic", text[:min(len(text), 2000)]))
	if err := os.Truncate(name, 0); err != nil {
		return fmt.Errorf("buffer: open %s: %w", name, err)
	}
	return nil
}

// withFiles adds to a refusal for damage which files have it: Badger's words
// often name none. The store must be closed.
func (o *Options) withFiles(ctx context.Context, refusal error) error {
	check, err := o.check(ctx)
	if err != nil {
		return refusal // damage that was found goes before a check that failed
	}
	var broken []string
	for _, f := range check.Files {
		if f.Problem != "" || f.Damaged > 0 {
			broken = append(broken, f.Name+" ("+f.problem()+")")
		}
	}
	if len(broken) == 0 {
		return refusal
	}
	return fmt.Errorf("%w; the damage is in %s", refusal, strings.Join(broken, ", "))
}

func (c *FileCheck) problem() string {
	if c.Problem != "" {
		return c.Problem
	}
	return fmt.Sprintf("%d records have another checksum", c.Damaged)
}

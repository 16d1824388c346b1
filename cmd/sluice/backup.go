package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
)

// backupCmd copies the store.
type backupCmd struct {
	storeFlag
	File string `arg:"" help:"The file to write; it is there only once it is whole and checked." name:"file"`
	// Clear is asked for, since who encrypts a store does not expect it.
	Clear bool `help:"Of an encrypted store too, though the backup is in clear text."`
	JSON  bool `help:"Print one JSON document."`
}

// Run writes the backup, reads it again, and only then gives it its name.
func (b *backupCmd) Run(ctx context.Context, c *console) error {
	if _, err := os.Lstat(b.File); err == nil {
		return fmt.Errorf("%s is there already: name a new file, so that no older backup is lost", b.File)
	}
	var info buffer.BackupInfo
	err := b.use(ctx, c, func(a *access) error {
		if !a.plan.Config.Buffer.Key.IsZero() && !b.Clear {
			return errors.New("the store is encrypted, and a backup is in clear text to whoever has the file: nothing was written. With --clear it is written all the same; keep it where you would keep the key, or encrypt it at once (age, gpg) and destroy the clear file")
		}
		return writeWhole(b.File, func(out io.Writer) error {
			p := newProgress(c.Err, "bytes")
			defer p.end()
			if err := a.Copy(ctx, "/backup", &metered{to: out, progress: p}); err != nil {
				return err
			}
			f, err := os.Open(b.File + partSuffix)
			if err != nil {
				return err
			}
			info, err = buffer.ReadBackup(f, nil)
			return errors.Join(err, f.Close())
		})
	})
	if err != nil {
		return err
	}
	if info.Damaged > 0 {
		fmt.Fprintf(c.Err, "sluice: %d records were damaged in the store already; they are in the backup as they are\n", info.Damaged)
	}
	return b.print(c, info)
}

func (b *backupCmd) print(c *console, info buffer.BackupInfo) error {
	if b.JSON {
		return encodeJSON(c.Out, info)
	}
	_, err := fmt.Fprintf(c.Out, "%s: %d events, %d records, %d bytes of %s; sha256 %s\n", b.File, info.Events, info.Records, info.Bytes, plain(info.Gateway), info.Sum)
	return err
}

// metered counts the bytes that pass.
type metered struct {
	to       io.Writer
	progress *progress
	n        uint64
}

// Write implements io.Writer.
func (m *metered) Write(p []byte) (int, error) {
	n, err := m.to.Write(p)
	m.n += uint64(n)
	m.progress.step(m.n)
	return n, err
}

// restoreCmd makes a store out of a backup.
type restoreCmd struct {
	storeFlag
	File  string `arg:"" help:"The backup." name:"file"`
	Check bool   `help:"Only read the backup to its end and say whether it is whole; needs no config."`
	Force bool   `help:"Also a backup of a gateway with another name."`
	JSON  bool   `help:"Print one JSON document."`
}

// Run checks the whole backup before it writes anything.
func (r *restoreCmd) Run(ctx context.Context, c *console) (err error) {
	f, err := os.Open(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return &exitError{code: exitUsage, cause: fmt.Errorf("there is no file %s: name the backup", r.File)}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r.Check {
		info, err := buffer.ReadBackup(f, nil)
		if err != nil {
			return err
		}
		return r.print(c, "is whole", info)
	}
	p, err := r.load(c)
	if err != nil {
		return err
	}
	settings, err := storeOptions(p)
	if err != nil {
		return err
	}
	if client, err := admin.Dial(ctx, settings.Path); err == nil {
		return errors.Join(errors.New("the gateway is running: stop it first"), client.Close())
	}
	info, err := r.restore(ctx, c, f, settings)
	if err != nil {
		return err
	}
	return r.print(c, "is restored to "+settings.Path, info)
}

// restore writes the audit log before the store and after it.
func (r *restoreCmd) restore(ctx context.Context, c *console, f *os.File, settings buffer.Options) (buffer.BackupInfo, error) {
	log := audit.New(settings.Path, audit.Options{})
	e := audit.Entry{By: admin.Me(), Action: "restore", Object: settings.Path}
	begun := false
	info, err := buffer.Restore(ctx, settings, f, r.Force, func(info buffer.BackupInfo) error {
		e.Detail = fmt.Sprintf("%s of %s, made %s, %d events, sha256 %s, force %t", r.File, info.Gateway, info.Created.Format("2006-01-02T15:04:05Z"), info.Events, info.Sum, r.Force)
		e.Outcome = audit.Begun
		_, err := log.Append(e)
		begun = err == nil
		return err
	}, c.Log.Named("buffer"))
	if begun {
		e.Outcome = audit.Done
		if err != nil {
			e.Outcome, e.Detail = audit.Failed, err.Error()
		}
		if _, auditErr := log.Append(e); auditErr != nil {
			fmt.Fprintln(c.Err, "sluice: the audit log has no word of how this ended:", auditErr)
		}
	}
	return info, errors.Join(err, log.Close())
}

func (r *restoreCmd) print(c *console, what string, info buffer.BackupInfo) error {
	if r.JSON {
		return encodeJSON(c.Out, info)
	}
	_, err := fmt.Fprintf(c.Out, "%s %s: %d events, %d records of %s, as it was at %s; sha256 %s\n",
		r.File, what, info.Events, info.Records, plain(info.Gateway), info.Created.Format("2006-01-02 15:04:05 MST"), info.Sum)
	return err
}

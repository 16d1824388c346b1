package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/status"
)

// recordingsFolder is where recordings are, beside the store.
const recordingsFolder = "recordings"

// stopRecordings is what closing the files may take.
const stopRecordings = 500 * time.Millisecond

// newRecordings makes the gateway's recordings; none is under way yet.
func newRecordings(g *gateway) *recording.Set {
	var machines []plant.MachineID
	for _, m := range g.plan.Machines {
		machines = append(machines, m.Machine())
	}
	return recording.NewSet(recording.Options{
		Folder:  filepath.Join(string(g.plan.Config.Buffer.Path), recordingsFolder),
		Gateway: g.plan.Config.Site.Gateway, Program: version, Machines: machines,
		Tags: func(m plant.MachineID) map[string]string {
			return g.plan.reads(g.plan.Machines[slices.Index(machines, m)])
		},
		Attach: func(m plant.MachineID, r derive.Recorder) {
			g.workers[slices.Index(machines, m)].Record(r)
		},
		Room: g.roomToRecord,
	}, g.log.Named("recording"))
}

// roomToRecord keeps recordings from taking the room that events need.
func (g *gateway) roomToRecord() error {
	b := g.buffer.Stats()
	if b.FullReason != "" || b.FreeBytes < 2*b.Reserve {
		return fmt.Errorf("the disk has %d bytes free, and below %d events come first: free some space", b.FreeBytes, 2*b.Reserve)
	}
	return nil
}

// startRecordings goes on with what was being recorded before the gateway
// stopped. That it cannot keeps nothing from running.
func (g *gateway) startRecordings(s *stages) {
	if err := g.recordings.Resume(); err != nil {
		g.log.Error("recordings do not go on", zap.Error(err))
	}
	s.start("recordings", stopRecordings, g.recordings.Run)
}

// recordingNotices says which recordings have ended by themselves.
func (g *gateway) recordingNotices() (all []status.Problem) {
	for _, f := range g.recordings.Failures() {
		if f.Machine == "" {
			all = append(all, status.Problem{
				Severity: status.Doubtful, What: "Recordings do not go on", Cause: f.Cause, Since: f.Since,
				Do: "The machines themselves go on. Begin again with sluice record, or sluice record --stop to be done with it; look at the disk.",
			})
			continue
		}
		all = append(all, status.Problem{
			Severity: status.Doubtful, What: "The recording of " + string(f.Machine) + " has ended", Cause: f.Cause, Since: f.Since,
			Do: "The machine itself goes on. Mend the cause and begin again with sluice record " + string(f.Machine) + ", or sluice record --stop " + string(f.Machine) + " to be done with it.",
		})
	}
	return all
}

// recordCmd records machines of the running gateway.
type recordCmd struct {
	storeFlag
	Machine []string        `arg:"" optional:"" help:"The machines; all by default."`
	For     config.Duration `help:"How long to record: 90m, 2h, 7d; 31d at most." default:"24h" placeholder:"DURATION"`
	Size    string          `help:"The room that all recordings take together; the oldest file goes first." default:"256 MiB" placeholder:"SIZE"`
	Stop    bool            `help:"End the recordings."`
	List    bool            `help:"Only say what is being recorded."`
	JSON    bool            `help:"Print one JSON document."`
}

// Validate refuses what contradicts itself.
func (r *recordCmd) Validate() error {
	if r.Stop && r.List {
		return errors.New("give --stop or --list, not both")
	}
	if r.List && len(r.Machine) > 0 {
		return errors.New("--list says it of all machines: leave the machine out")
	}
	return nil
}

// Run asks the running gateway, which alone reads the devices: a PLC has few
// connections.
func (r *recordCmd) Run(ctx context.Context, c *console) (err error) {
	p, err := r.load(c)
	if err != nil {
		return err
	}
	if err := p.knowsMachines(r.Machine); err != nil {
		return err
	}
	var size config.Size
	if err := size.UnmarshalText([]byte(r.Size)); err != nil {
		return &exitError{code: exitUsage, cause: fmt.Errorf("--size: %w", err)}
	}
	folder := string(p.Config.Buffer.Path)
	client, err := admin.Dial(ctx, folder)
	if errors.Is(err, admin.ErrNotRunning) {
		return fmt.Errorf("no gateway is running in %s, and it is the gateway that records, since a PLC has few connections: start it with sluice run, then record", folder)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	var now admin.Recordings
	q := admin.RecordRequest{Machines: r.Machine}
	switch {
	case r.List:
		err = client.Get(ctx, "/record", nil, &now)
	case r.Stop:
		err = client.Post(ctx, "/record/stop", q, &now)
	default:
		q.Seconds, q.Bytes = int64(r.For.Std()/time.Second), int64(size)
		err = client.Post(ctx, "/record", q, &now)
	}
	if err != nil {
		return err
	}
	return r.print(c, p, now)
}

func (r *recordCmd) print(c *console, p *plan, now admin.Recordings) error {
	if r.JSON {
		return encodeJSON(c.Out, now)
	}
	zone := p.Config.Site.Location()
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tRECORDING\tUNTIL\tINPUTS\tFILES\tBYTES\t")
	for _, m := range now.Machines {
		state := "yes"
		if m.Over {
			state = strings.TrimSpace("ended " + plain(m.Problem))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t\n", plain(string(m.Machine)), state, m.Until.In(zone).Format("2006-01-02 15:04:05"), m.Inputs, m.Files, m.Bytes)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if now.Problem != "" {
		fmt.Fprintf(c.Err, "sluice: %s\n", plain(now.Problem))
	}
	_, err := fmt.Fprintf(c.Out, "\nthe files are in %s\n", now.Folder)
	return err
}

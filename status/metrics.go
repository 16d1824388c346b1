package status

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sluice-edge/sluice/plant"
	"go.uber.org/zap"
)

// registerRuntime adds what the Go runtime and the operating system say of the
// process: memory, threads, descriptors.
func registerRuntime(r *prometheus.Registry) {
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// metricsHandler serves r. Two scrapes at once are enough; each reads one
// Snapshot.
func metricsHandler(r *prometheus.Registry, log *zap.Logger) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog:            quietLog(log),
		ErrorHandling:       promhttp.HTTPErrorOnError,
		MaxRequestsInFlight: 2,
		Timeout:             writeTimeout / 2,
		// A compressor is kept for each scrape at once, 1 MiB each; the text goes
		// over a plant's own network.
		DisableCompression: true,
	})
}

// collector turns one Snapshot into metrics at each scrape. Labels are names of
// the config (device, machine, uplink) and kinds of events, so their number is
// bounded by the config; a tag is never a label.
type collector struct {
	source Source
	all    []*prometheus.Desc

	buildInfo, startTime, ready *prometheus.Desc

	deviceConnected, deviceSince, deviceReads, deviceErrors, deviceReconnects      *prometheus.Desc
	deviceReadings, deviceBadReadings, deviceBadTags                               *prometheus.Desc
	deviceLastRead, deviceReadTime, deviceLate                                     *prometheus.Desc
	deviceSkipped, deviceWrites, deviceWriteErrors, deviceDuplicates, devicePanics *prometheus.Desc
	deviceLineBusy, lineBusy, deviceClockOffset                                    *prometheus.Desc
	deviceUnsteady                                                                 *prometheus.Desc

	machineRunning, machineGood, machineScrap, machineInputs, machineCommits *prometheus.Desc
	machineEvents, machineOverflows, machineWaiting, machineLastEvent        *prometheus.Desc

	bufferCommits, bufferSyncs, bufferEvents, bufferLive, bufferDisk                 *prometheus.Desc
	bufferFree, bufferReserve, bufferFull, bufferFaulted, bufferDamaged, bufferQuota *prometheus.Desc
	bufferMissing                                                                    *prometheus.Desc

	uplinkBreaker, uplinkBacklog, uplinkOldest, uplinkDead, uplinkDelivered                                                                                                                           *prometheus.Desc
	uplinkRejected, uplinkRetried, uplinkSends, uplinkLast, uplinkDown, uplinkStuck, uplinkSilent, uplinkShelved, uplinkAccepted, uplinkUnaccepted, uplinkUnacceptedAge, uplinkBadAcks, uplinkNotices *prometheus.Desc
	uplinkExpires, uplinkUnmapped, uplinkPassed                                                                                                                                                       *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(source Source) *collector {
	c := &collector{source: source}
	d := func(name, help string, labels ...string) *prometheus.Desc {
		desc := prometheus.NewDesc("sluice_"+name, help, labels, nil)
		c.all = append(c.all, desc)
		return desc
	}
	c.buildInfo = d("build_info", "Always 1; the label says which version runs.", "version")
	c.startTime = d("start_time_seconds", "When the gateway started, in seconds since 1970.")
	c.ready = d("ready", "1 once every stage of the gateway has started.")

	c.deviceConnected = d("device_connected", "1 while the device is connected.", "device")
	c.deviceSince = d("device_state_change_timestamp_seconds", "When the device was last lost or back, in seconds since 1970.", "device")
	c.deviceReads = d("device_reads_total", "Polls or publishes that the device answered.", "device")
	c.deviceErrors = d("device_errors_total", "Connects and reads that failed.", "device")
	c.deviceReconnects = d("device_reconnects_total", "Connections made after the first one.", "device")
	c.deviceReadings = d("device_readings_total", "Tag values received.", "device")
	c.deviceBadReadings = d("device_bad_readings_total", "Tag values received that were not of good quality.", "device")
	c.deviceBadTags = d("device_bad_tags", "Tags that are not of good quality now.", "device")
	c.deviceLastRead = d("device_last_read_timestamp_seconds", "When the device last answered, in seconds since 1970.", "device")
	c.deviceReadTime = d("device_read_duration_seconds", "How long the last read took.", "device")
	c.deviceLate = d("device_poll_lateness_seconds", "By how much the last poll started after its time.", "device")

	c.deviceSkipped = d("device_skipped_polls_total", "Polls left out because the one before took longer than the interval.", "device")
	c.deviceWrites = d("device_writes_total", "Writes asked for.", "device")
	c.deviceWriteErrors = d("device_write_errors_total", "Writes that failed.", "device")
	c.deviceDuplicates = d("device_duplicate_answers_total", "Repeated answers, the same as before, that were dropped.", "device")
	c.devicePanics = d("device_panics_total", "Panics of the driver; each ended a session.", "device")

	c.deviceLineBusy = d("device_line_busy_seconds_total", "For how long the line of the device was busy with it.", "device")
	c.lineBusy = d("line_busy_ratio", "Which part of the last minute the line was busy, 0 to 1.", "line")
	c.deviceClockOffset = d("device_clock_offset_seconds", "How far the device's clock is ahead of this PC's; absent while that is not known.", "device")
	c.deviceUnsteady = d("device_unsteady", "1 while the device comes and goes.", "device")

	c.machineRunning = d("machine_running", "1 while the machine runs, 0 while it is stopped; absent until its state was seen.", "machine")
	c.machineGood = d("machine_good_pieces_total", "Good pieces counted, kept over restarts.", "machine")
	c.machineScrap = d("machine_scrap_pieces_total", "Scrap pieces counted, kept over restarts.", "machine")
	c.machineInputs = d("machine_inputs_total", "Inputs that the machine's rules took.", "machine")
	c.machineCommits = d("machine_commits_total", "Commits of the machine's state and events.", "machine")
	c.machineEvents = d("machine_events_total", "Events recorded.", "machine", "kind")
	c.machineOverflows = d("machine_overflows_total", "Readings that a full mailbox dropped or merged away with loss.", "machine")
	c.machineWaiting = d("machine_waiting", "1 while the machine's commits are refused because the buffer is full.", "machine")
	c.machineLastEvent = d("machine_last_event_timestamp_seconds", "Time of the newest recorded event, in seconds since 1970.", "machine")

	c.bufferCommits = d("buffer_commits_total", "Batches committed.")
	c.bufferSyncs = d("buffer_syncs_total", "Disk syncs that made the commits durable.")
	c.bufferEvents = d("buffer_events_total", "Events recorded.")
	c.bufferLive = d("buffer_live_bytes", "Size of the retained records.")
	c.bufferDisk = d("buffer_disk_bytes", "Disk blocks that the buffer's folder takes.")
	c.bufferFree = d("buffer_free_bytes", "Free space of the buffer's file system.")
	c.bufferReserve = d("buffer_reserve_bytes", "Free space that the buffer never uses.")
	c.bufferQuota = d("buffer_quota_bytes", "How large the retained records may become; 0 without a bound.")
	c.bufferFull = d("buffer_full", "1 while new events are refused for lack of space.")
	c.bufferFaulted = d("buffer_faulted", "1 after a failed commit, until the restart.")
	c.bufferDamaged = d("buffer_damaged_records_total", "Records that a read found damaged or missing.")

	c.bufferMissing = d("buffer_missing_events_total", "Recorded events that gap events say are missing, by cause, since the start.", "cause")

	c.uplinkBreaker = d("uplink_breaker_state", "0 closed (delivering), 1 half-open (trying), 2 open (waiting).", "uplink")
	c.uplinkDown = d("uplink_down", "1 while the system cannot be reached.", "uplink")
	c.uplinkSilent = d("uplink_silent_machines", "Machines of which the receiver was asked what it had last, and does not say it.", "uplink")
	c.uplinkShelved = d("uplink_shelved_events", "Events among the dead letters that wait for another event's answer and are sent by themselves then.", "uplink")
	c.uplinkAccepted = d("uplink_accepted_events_total", "Events that the receiver behind a broker has acknowledged itself, since the start.", "uplink")
	c.uplinkUnaccepted = d("uplink_unaccepted_events", "Events that a broker has, and the receiver behind it has not acknowledged.", "uplink")
	c.uplinkUnacceptedAge = d("uplink_unaccepted_age_seconds", "How long the oldest of them waits; 0 without any.", "uplink")
	c.uplinkBadAcks = d("uplink_bad_acknowledgements_total", "Acknowledgements of the receiver that could not be read, since the start.", "uplink")
	c.uplinkNotices = d("uplink_notices", "What the page tells of the uplink while it delivers: a spare broker in use, a certificate that cannot be read.", "uplink")
	c.uplinkExpires = d("uplink_expires_timestamp_seconds", "When something that the uplink needs ends: a certificate, a token.", "uplink", "what")
	c.uplinkPassed = d("uplink_passed_over_events_total", "Events that are no business of the system by its config, since the start, by the reason.", "uplink", "reason")
	c.uplinkUnmapped = d("uplink_unmapped_codes", "Codes that were looked up in a table which does not have them.", "uplink")
	c.uplinkStuck = d("uplink_stuck_machines", "Machines whose events do not go out while those of others do.", "uplink")
	c.uplinkBacklog = d("uplink_backlog_events", "Events recorded and not yet settled at the receiver.", "uplink")
	c.uplinkOldest = d("uplink_backlog_age_seconds", "Age of the oldest event that waits; 0 without any.", "uplink")
	c.uplinkDead = d("uplink_dead_letters", "Refused events that are kept.", "uplink")
	c.uplinkDelivered = d("uplink_delivered_events_total", "Events that the receiver acknowledged.", "uplink")
	c.uplinkRejected = d("uplink_rejected_events_total", "Events that the receiver refused.", "uplink")
	c.uplinkRetried = d("uplink_retried_events_total", "Events that had to be tried again.", "uplink")
	c.uplinkSends = d("uplink_sends_in_progress", "Sends under way.", "uplink")
	c.uplinkLast = d("uplink_last_delivery_timestamp_seconds", "When an event was last acknowledged, in seconds since 1970.", "uplink")
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.all {
		ch <- d
	}
}

// Collect implements prometheus.Collector. promhttp calls it for each scrape.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	snap := c.source.Snapshot()
	out := sink{ch}
	out.gauge(c.buildInfo, 1, snap.Version)
	out.moment(c.startTime, snap.Started)
	out.flag(c.ready, snap.Ready && snap.Buffer.Fault == "")
	c.devices(out, snap)
	c.lines(out, snap)
	c.machines(out, snap)
	c.buffer(out, snap)
	c.uplinks(out, snap)
}

func (c *collector) devices(out sink, snap Snapshot) {
	for i := range snap.Devices {
		s := &snap.Devices[i]
		name := string(s.Device)
		out.flag(c.deviceConnected, s.Connected, name)
		out.moment(c.deviceSince, s.Since, name)
		out.counter(c.deviceReads, s.Reads, name)
		out.counter(c.deviceErrors, s.Errors, name)
		out.counter(c.deviceReconnects, s.Reconnects, name)
		out.counter(c.deviceReadings, s.Readings, name)
		out.counter(c.deviceBadReadings, s.BadReadings, name)
		out.gauge(c.deviceBadTags, float64(len(s.BadTags)), name)
		out.moment(c.deviceLastRead, s.LastRead, name)
		if !s.Subscribed { // who reports by itself is not polled
			out.gauge(c.deviceReadTime, s.ReadTime.Seconds(), name)
			out.gauge(c.deviceLate, s.Late.Seconds(), name)
			out.counter(c.deviceSkipped, s.Skipped, name)
		}
		out.counter(c.deviceWrites, s.Writes, name)
		out.counter(c.deviceWriteErrors, s.WriteErrors, name)
		out.counter(c.deviceDuplicates, s.Duplicates, name)
		out.counter(c.devicePanics, s.Panics, name)
		if s.Line != "" {
			out.send(c.deviceLineBusy, prometheus.CounterValue, s.LineUsed.Seconds(), []string{name})
		}
		if s.ClockKnown {
			out.gauge(c.deviceClockOffset, s.ClockOffset.Seconds(), name)
		}
		out.flag(c.deviceUnsteady, !s.Unsteady.Since.IsZero(), name)
	}
}

func (c *collector) lines(out sink, snap Snapshot) {
	for _, l := range linesOf(snap.Devices) {
		out.gauge(c.lineBusy, l.Share, l.Line)
	}
}

func (c *collector) machines(out sink, snap Snapshot) {
	for i := range snap.Machines {
		s := &snap.Machines[i]
		name := string(s.Machine)
		if s.Running != nil {
			out.flag(c.machineRunning, *s.Running, name)
		}
		out.counter(c.machineGood, uint64(max(s.Good, 0)), name)
		out.counter(c.machineScrap, uint64(max(s.Scrap, 0)), name)
		out.counter(c.machineInputs, s.Inputs, name)
		out.counter(c.machineCommits, s.Commits, name)
		for kind, n := range s.Events {
			out.counter(c.machineEvents, n, name, string(kind))
		}
		out.counter(c.machineOverflows, s.Overflows, name)
		out.flag(c.machineWaiting, s.Waiting, name)
		out.moment(c.machineLastEvent, s.LastEventTime, name)
	}
}

func (c *collector) buffer(out sink, snap Snapshot) {
	s := &snap.Buffer
	out.counter(c.bufferCommits, s.Commits)
	out.counter(c.bufferSyncs, s.Groups)
	out.counter(c.bufferEvents, s.Events)
	out.gauge(c.bufferLive, float64(s.LiveBytes))
	out.gauge(c.bufferDisk, float64(s.DiskBytes))
	out.gauge(c.bufferFree, float64(s.FreeBytes))
	out.gauge(c.bufferReserve, float64(s.Reserve))
	out.gauge(c.bufferQuota, float64(s.Quota))
	out.flag(c.bufferFull, s.Full)
	out.flag(c.bufferFaulted, s.Fault != "")
	out.counter(c.bufferDamaged, s.Lost)
	for _, cause := range plant.GapCauses() {
		if cause != plant.GapMailbox && cause != plant.GapUnread { // those are the rules'
			out.counter(c.bufferMissing, s.Missing[cause], string(cause))
		}
	}
}

func (c *collector) uplinks(out sink, snap Snapshot) {
	for i := range snap.Uplinks {
		s := &snap.Uplinks[i]
		queue := snap.queue(s.Uplink)
		out.gauge(c.uplinkBreaker, breakerNumber(s.Breaker), s.Uplink)
		out.flag(c.uplinkDown, s.Down, s.Uplink)
		out.gauge(c.uplinkStuck, float64(len(s.Problems)), s.Uplink)
		out.gauge(c.uplinkSilent, float64(s.Silent), s.Uplink)
		out.counter(c.uplinkAccepted, s.Accepted, s.Uplink)
		out.gauge(c.uplinkUnaccepted, float64(s.Unaccepted), s.Uplink)
		out.gauge(c.uplinkUnacceptedAge, age(snap.At, s.Oldest).Seconds(), s.Uplink)
		out.counter(c.uplinkBadAcks, s.BadAcks, s.Uplink)
		out.gauge(c.uplinkNotices, float64(len(s.Notices)), s.Uplink)
		out.gauge(c.uplinkShelved, float64(s.Shelved), s.Uplink)
		for _, e := range s.Expires {
			out.gauge(c.uplinkExpires, float64(e.At.Unix()), s.Uplink, e.What)
		}
		for _, p := range s.PassedOver {
			out.counter(c.uplinkPassed, p.Events, s.Uplink, p.Reason)
		}
		out.gauge(c.uplinkUnmapped, float64(len(s.Unmapped)), s.Uplink)
		out.gauge(c.uplinkBacklog, float64(queue.Backlog), s.Uplink)
		out.gauge(c.uplinkOldest, age(snap.At, queue.Oldest).Seconds(), s.Uplink)
		out.gauge(c.uplinkDead, float64(queue.DeadLetters), s.Uplink)
		out.counter(c.uplinkDelivered, s.Delivered, s.Uplink)
		out.counter(c.uplinkRejected, s.Rejected, s.Uplink)
		out.counter(c.uplinkRetried, s.Retried, s.Uplink)
		out.gauge(c.uplinkSends, float64(s.Concurrent), s.Uplink)
		out.moment(c.uplinkLast, s.LastDelivery, s.Uplink)
	}
}

func breakerNumber(state string) float64 {
	switch state {
	case breakerOpen:
		return 2
	case breakerHalfOpen:
		return 1
	default:
		return 0
	}
}

// sink sends metrics to a scrape.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) counter(d *prometheus.Desc, n uint64, labels ...string) {
	s.send(d, prometheus.CounterValue, float64(n), labels)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.GaugeValue, v, labels)
}

func (s sink) flag(d *prometheus.Desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	s.gauge(d, v, labels...)
}

// moment sends a time; one that has not come yet is left out, since 0 would read
// as 1970.
func (s sink) moment(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.gauge(d, float64(t.UnixMilli())/1000, labels...)
	}
}

func (s sink) send(d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	for i, l := range labels {
		// The exposition format is UTF-8; a name is a name even if a config holds
		// other bytes.
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	m, err := prometheus.NewConstMetric(d, t, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// dialectPoints are the places to be killed at around a request of an uplink with
// a dialect of its own.
var dialectPoints = []string{
	"prodsmart.beforeRequest", "prodsmart.afterResponse",
	"nextplus.beforeRequest", "nextplus.afterResponse",
}

// orderAt is the register of the order's number.
const orderAt = 200

// dialects kills a gateway around its requests to Prodsmart and to an ERP that
// takes the reports of Next Plus, both strict stand-ins, and compares what they
// have booked with what the PLCs made.
func dialects(t *trial) error {
	company := prodsmart.New(prodsmart.Company{
		Key: "rig", Secret: "rig-secret", Machines: []prodsmart.Machine{{Code: press}, {Code: line}}, WasteCodes: []string{"S"},
	})
	works := nextplus.New(nextplus.ERP{HonoursKeys: true, NeedsKeys: true})
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, Sinks: []string{}})
	if err != nil {
		return err
	}
	at, err := t.serve(company)
	if err != nil {
		return err
	}
	worksAt, err := t.serve(works)
	if err != nil {
		return err
	}
	for name, secret := range map[string]string{"key": "rig", "secret": "rig-secret"} {
		if err := os.WriteFile(b.secret(name), []byte(secret), 0o600); err != nil {
			return err
		}
	}
	// Orders stand where the scale has nothing.
	b.plant.mixer.PLC().Update(func(k *plantsim.Bank) { k.SetHolding(orderAt, 'R'<<8|'I', 'G'<<8|'1') })
	b.text = b.dialectConfig(at, worksAt)
	// Nothing is sent of a unit that has no order, so the order is first.
	if err := b.start(); err != nil {
		return err
	}
	if err := b.until(waitReady, "the order is not recorded", func() bool { return b.judge.AcceptedOf(mixer) > 0 }); err != nil {
		return err
	}
	b.gateway.kill()
	t.n *= len(dialectPoints)
	for t.next() {
		round, name := (t.done-1)/len(dialectPoints), dialectPoints[(t.done-1)%len(dialectPoints)]
		if err := b.killAt(failpoint{name: name}, 1+(round+t.rand.IntN(2))%2); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := b.start(); err != nil {
		return err
	}
	b.work()
	if err := b.accepting(20); err != nil {
		return err
	}
	b.rest()
	if err := b.until(waitSettle, "what the PLCs made is not booked", func() bool { return b.plant.stands() && len(b.unbooked(company, works)) == 0 }); err != nil {
		return errors.Join(err, &violationError{wrong: b.unbooked(company, works)})
	}
	// A count that is repeated after a kill did not grow.
	if found := append(company.Violations(prodsmart.RuleEqual), works.Violations()...); len(found) > 0 {
		return &violationError{wrong: []string{central.Words(found)}}
	}
	t.say("%d kills; Prodsmart was asked %d times, %d in its busiest minute; the ERP has %d units of %d payloads",
		t.done, len(company.Calls()), company.Busiest(time.Minute), works.Devices(), len(works.Accepted()))
	return b.gateway.stop()
}

// serve serves a stand-in until the case is over and returns its base URL.
func (t *trial) serve(h http.Handler) (base string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // it ends by Close only
	}()
	t.later(func() { _ = server.Close(); <-ended })
	return "http://" + l.Addr().String(), nil
}

// unbooked says what the stand-ins have otherwise than the PLCs.
func (b *bed) unbooked(company *prodsmart.Fake, works *nextplus.Fake) (wrong []string) {
	for _, m := range []string{press, line} {
		made, _ := b.plant.Pieces(m)
		booked := company.Machine(m)
		if booked.Count+booked.Waste["S"] != float64(made) {
			wrong = append(wrong, fmt.Sprintf("Prodsmart has counted %.0f good and %.0f bad at %s, the PLC %d", booked.Count, booked.Waste["S"], m, made))
		}
	}
	units := b.plant.Acknowledged()
	for _, serial := range units {
		if d := works.Device(serial); d == nil || d.Times != 1 {
			wrong = append(wrong, fmt.Sprintf("the ERP has %+v of the unit %s", d, serial))
		}
	}
	if works.Devices() > len(units) {
		wrong = append(wrong, fmt.Sprintf("the ERP has %d units, the PLC has handed over %d", works.Devices(), len(units)))
	}
	return wrong
}

// secret is the file of a secret of that name.
func (b *bed) secret(name string) string { return filepath.Join(b.dir, name) }

// dialectConfig lets the mixer's records be units with a serial number.
func (b *bed) dialectConfig(company, works string) string {
	return b.envelope() + fmt.Sprintf(`uplinks:
  prodsmart: {driver: prodsmart, url: "%s/", api_key: "file:%s", api_secret: "file:%s", machines: [%s, %s], kinds: [counter], open_production: 0s}
  works: {driver: nextplus, work_order_source: RIG, device: "%s%s", deduplicates: true}
`, company, b.secret("key"), b.secret("secret"), press, line, works, nextplus.DevicePath) +
		b.countingDevices(50, 100) + fmt.Sprintf(`  mixer:
    driver: modbus
    endpoint: %s
    interval: 50ms
    tags:
      offer: coil:0
      ack: coil:1
      number: holding:100
      order: {address: "holding:%d", type: string, length: 2}
      lot: {address: "holding:115", type: string, length: 8}
`, b.plant.mixer.PLC().Addr(), orderAt) + countingMachines + fmt.Sprintf(`  %s:
    device: mixer
    order: {tag: order, source: RIG, sku: order}
    serial: {trigger: offer, ack: ack, number: number, serial: lot}
`, mixer)
}

package mqtt

import (
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// connect returns a plain client, as a MES or a screen has one.
func connect(t testing.TB, addr, id string) paho.Client {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetProtocolVersion(4).
		SetConnectTimeout(5 * time.Second).SetAutoReconnect(false).SetOrderMatters(false))
	done(t, c.Connect())
	return c
}

func done(t testing.TB, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Errorf("the broker did not answer: %v", token.Error())
	}
}

func subscribe(t testing.TB, c paho.Client, topic string, do func(payload []byte)) {
	t.Helper()
	done(t, c.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { do(m.Payload()) }))
}

// eventually waits for something that happens elsewhere.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

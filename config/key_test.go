package config

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestEncryptionKey(t *testing.T) {
	raw := []byte("0123456789abcdef")
	for text, want := range map[string]string{
		"":                      "",
		"a key, 16 bytes!":      "a key, 16 bytes!",
		hex.EncodeToString(raw): string(raw),
		base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))): strings.Repeat("k", 32),
		strings.Repeat("~", 24): strings.Repeat("~", 24),
	} {
		b := defaultBuffer()
		b.Key = NewSecret(text)
		if got, err := b.EncryptionKey(); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if err := b.Validate(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	b := defaultBuffer()
	b.Key = NewSecret("hunter2")
	if err := b.Validate(); err == nil || !strings.Contains(err.Error(), "7 characters") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("a short key: %v", err)
	}
	// A key that is not on this computer is no plain store.
	b.Key = Secret{absent: true}
	if k, err := b.EncryptionKey(); err == nil || k != nil {
		t.Errorf("an absent key: %v, %v", k, err)
	}
}

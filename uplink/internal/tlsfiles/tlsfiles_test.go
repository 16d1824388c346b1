package tlsfiles_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink/internal/tlsfiles"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		files  tlsfiles.Files
		secure bool
		want   string
	}{
		{tlsfiles.Files{}, false, ""},
		{tlsfiles.Files{CA: "ca", Cert: "c", Key: "k", ServerName: "n"}, true, ""},
		{tlsfiles.Files{Cert: "c"}, true, "belong together"},
		{tlsfiles.Files{Key: "k"}, true, "belong together"},
		{tlsfiles.Files{CA: "ca"}, false, "use a url with https://"},
		{tlsfiles.Files{ServerName: "n"}, false, "server_name"},
	} {
		err := test.files.Validate(test.secure, "https://")
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.files, err, test.want)
		}
	}
}

func TestLoad(t *testing.T) {
	c, err := tlsfiles.Files{}.Load("mes.example")
	if err != nil || c.MinVersion != tls.VersionTLS12 || c.ServerName != "mes.example" || c.RootCAs != nil || len(c.Certificates) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := (tlsfiles.Files{ServerName: "other.example"}).Load("mes.example"); err != nil || c.ServerName != "other.example" {
		t.Errorf("%+v, %v", c, err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = tlsfiles.Files{CA: config.Path(garbage), Cert: config.Path(garbage), Key: config.Path(garbage)}.Load("h")
	if err == nil || !strings.Contains(err.Error(), "no certificate") || !strings.Contains(err.Error(), "do not go together") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("garbage: %v", err)
	}
}

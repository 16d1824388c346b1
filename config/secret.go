package config

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
)

// secret resolves "env:NAME" and "file:PATH". No message shows the value,
// since what stands in the config may be the secret itself.
func (d *decoder) secret(n *node, v reflect.Value, path string, at Position) {
	const remedy = "write env:NAME or file:PATH"
	if n.kind != scalarNode {
		d.wrong(n, path, at, "env:NAME or file:PATH")
		return
	}
	scheme, where, _ := strings.Cut(n.text, ":")
	var clear string
	switch {
	case scheme == "env" && where != "":
		value, ok := os.LookupEnv(where)
		if !ok || value == "" {
			d.fault(at, path, "the environment variable "+where+" is not set", "set it where the gateway is started, for example in its systemd unit")
			return
		}
		clear = value
	case scheme == "file" && where != "":
		value, ok := d.secretFile(where, path, at)
		if !ok {
			return
		}
		clear = value
	default:
		d.fault(at, path, "a secret in clear text", remedy+", and change the secret, since it was in a file that is copied around")
		return
	}
	v.Set(reflect.ValueOf(Secret{clear: clear}))
}

func (d *decoder) secretFile(where, path string, at Position) (clear string, ok bool) {
	const largest = 64 << 10
	name := d.absolute(where)
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err == nil && info.Size() > largest {
		err = fmt.Errorf("%s is larger than %s", name, Size(largest))
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		d.fault(at, path, "the secret cannot be read: "+err.Error(), "create the file, readable by the gateway's user only")
		return "", false
	}
	clear = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if clear == "" {
		d.fault(at, path, "the secret file "+name+" is empty", "write the secret into it")
		return "", false
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		d.faults = append(d.faults, Fault{
			Position: at, Path: join(d.s.path, path), Warning: true,
			Problem: "the secret file " + name + " is readable by every user", Remedy: "chmod 600 " + name,
		})
	}
	return clear, true
}

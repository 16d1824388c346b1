package config

import (
	"strings"
	"testing"
)

func TestHostProblem(t *testing.T) {
	for _, host := range []string{"10.0.0.7", "plc", "plc-1.plant.example", "plc.example.", "PLC_1", "1and1.example", "::1", "fe80::1%eth0", "2001:db8::7", strings.Repeat("a", 63)} {
		if problem := HostProblem(host); problem != "" {
			t.Errorf("%s %s", host, problem)
		}
	}
	for host, want := range map[string]string{
		"":                         "names no host",
		"10.0.0.300":               "holds no IPv4 address, which is four numbers from 0 to 255",
		"10.0.0":                   "holds no IPv4 address, which is four numbers from 0 to 255",
		"10.0.0.7.502":             "holds no IPv4 address, which is four numbers from 0 to 255",
		"010.0.0.7":                "holds no IPv4 address, which is four numbers from 0 to 255",
		"502":                      "holds no IPv4 address, which is four numbers from 0 to 255",
		"10,0,0,7":                 "holds ',', which no host name has",
		"my plc":                   "holds ' ', which no host name has",
		"plc/1":                    "holds '/', which no host name has",
		"plç":                      "holds 'ç', which no host name has",
		"1::2::3":                  "holds no IPv6 address",
		"a..b":                     "holds no host name: a part between two points is empty, or it is too long",
		".":                        "holds no IPv4 address, which is four numbers from 0 to 255",
		strings.Repeat("a", 64):    "holds no host name: a part between two points is empty, or it is too long",
		strings.Repeat("a.b", 100): "holds no host name: a part between two points is empty, or it is too long",
	} {
		if got := HostProblem(host); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

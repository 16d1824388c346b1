package opcua

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// A sealed chunk is opened by who has the keys, and nothing shorter, longer or
// changed in any byte is, nor ever panics.
func TestSealedChunks(t *testing.T) {
	for _, policy := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss} {
		ours, theirs := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		a, err := uapolicy.Symmetric(policy, ours, theirs)
		if err != nil {
			t.Fatal(err)
		}
		b, err := uapolicy.Symmetric(policy, theirs, ours)
		if err != nil {
			t.Fatal(err)
		}
		for _, encrypt := range []bool{false, true} {
			for size := range 40 {
				head := append(startChunk("MSG", final), 7, 0, 0, 0, 9, 0, 0, 0)
				body := bytes.Repeat([]byte{3}, size)
				sealed, err := seal(head, 4, 5, body, a, true, encrypt)
				if err != nil {
					t.Fatal(err)
				}
				if n := int(binary.LittleEndian.Uint32(sealed[4:])); n != len(sealed) {
					t.Fatalf("says %d bytes of %d", n, len(sealed))
				}
				got, err := unseal(bytes.Clone(sealed), 16, b, true, encrypt)
				if err != nil || !bytes.Equal(got[8:], body) || binary.LittleEndian.Uint32(got[4:]) != 5 {
					t.Fatalf("%s encrypt %v, %d bytes: %v, %v", policy, encrypt, size, got, err)
				}
				for cut := 16; cut < len(sealed); cut++ {
					if _, err := unseal(bytes.Clone(sealed[:cut]), 16, b, true, encrypt); err == nil {
						t.Fatalf("%s encrypt %v: %d of %d bytes are taken", policy, encrypt, cut, len(sealed))
					}
				}
				for at := range sealed {
					changed := bytes.Clone(sealed)
					changed[at] ^= 1
					if _, err := unseal(changed, 16, b, true, encrypt); err == nil {
						t.Fatalf("%s encrypt %v: changed at %d of %d, and taken", policy, encrypt, at, len(sealed))
					}
				}
			}
			// What room says fits, and a byte more does not.
			most := room(8192, 16, a, true, encrypt)
			for extra := range 2 {
				sealed, err := seal(append(startChunk("MSG", final), make([]byte, 8)...), 4, 5, make([]byte, most+extra), a, true, encrypt)
				if err != nil || (len(sealed) <= 8192) != (extra == 0) {
					t.Errorf("%s encrypt %v: %d bytes of body make %d: %v", policy, encrypt, most+extra, len(sealed), err)
				}
			}
		}
	}
}

// Large keys have another form of padding, and chunks of several blocks of RSA.
func TestSealedWithLargeKeys(t *testing.T) {
	small, large := rsaKey(t, 2048), rsaKey(t, 3072)
	for _, policy := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss} {
		a, err := uapolicy.Asymmetric(policy, small, &large.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		b, err := uapolicy.Asymmetric(policy, large, &small.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		for size := 0; size < 400; size += 37 {
			for _, way := range [][2]*uapolicy.EncryptionAlgorithm{{a, b}, {b, a}} {
				body := bytes.Repeat([]byte{3}, size)
				sealed, err := seal(startChunk("OPN", final), 4, 5, body, way[0], true, true)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := unseal(sealed, 8, way[1], true, true); err != nil || !bytes.Equal(got[8:], body) {
					t.Fatalf("%s, %d bytes: %v", policy, size, err)
				}
			}
		}
	}
}

package opcua

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// The forms of chunks: OPC 10000-6, 6.7.2 and 7.1.2.
const (
	// chunkHead is the type, the kind and the length of a chunk; sequenceHead its
	// number and that of its request.
	chunkHead, sequenceHead = 8, 8
	// bufferSize is the longest chunk that is taken and offered, leastBuffer the
	// shortest that a server may want; the specification says 8192.
	bufferSize, leastBuffer = 65535, 1024

	final, intermediate, aborted = 'F', 'C', 'A'
)

// security says how a channel is secured; the zero security is none.
type security struct {
	policy string
	mode   ua.MessageSecurityMode
	// own is who the gateway is, server and public who it may speak to.
	own    identity
	server []byte
	public *rsa.PublicKey
}

// unsecured is the security of a channel without any.
func unsecured() security {
	return security{policy: ua.SecurityPolicyURINone, mode: ua.MessageSecurityModeNone}
}

func (s *security) signs() bool { return s.mode != ua.MessageSecurityModeNone }

func (s *security) encrypts() bool { return s.mode == ua.MessageSecurityModeSignAndEncrypt }

// readChunk reads one chunk into buf and returns it. What it announces costs
// nothing: buf is as long as the longest.
func readChunk(from io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(from, buf[:chunkHead]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(buf[4:])
	if n < chunkHead || n > uint32(len(buf)) {
		return nil, fmt.Errorf("the server sends a chunk of %d bytes, and %d to %d are possible: it is broken, or no OPC UA server", n, chunkHead, len(buf))
	}
	if _, err := io.ReadFull(from, buf[chunkHead:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf[:n], nil
}

// startChunk begins a chunk of that type; seal or finish puts its length in.
func startChunk(kind string, more byte) []byte {
	return append([]byte(kind), more, 0, 0, 0, 0)
}

// finish puts the length into a chunk.
func finish(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

// seal adds the sequence header and the body to the head of a chunk, signs and
// encrypts it (OPC 10000-6, 6.7.2.5).
func seal(head []byte, sequence, request uint32, body []byte, a *uapolicy.EncryptionAlgorithm, sign, encrypt bool) ([]byte, error) {
	n := len(head)
	b := binary.LittleEndian.AppendUint32(head, sequence)
	b = binary.LittleEndian.AppendUint32(b, request)
	b = append(b, body...)
	if !sign {
		return finish(b), nil
	}
	size := len(b) + a.SignatureLength()
	if encrypt {
		// A key of more than 256 bytes needs a second byte for the length.
		more := 1
		if a.RemoteSignatureLength() > 256 {
			more = 2
		}
		block := a.PlaintextBlockSize()
		padding := (block - (size-n+more)%block) % block
		b = append(b, bytes.Repeat([]byte{byte(padding)}, padding+1)...)
		if more == 2 {
			b = append(b, byte(padding>>8))
		}
		size = n + (len(b)-n+a.SignatureLength())/block*a.BlockSize()
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	signature, err := a.Signature(b)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	b = append(b, signature...)
	if !encrypt {
		return b, nil
	}
	secret, err := a.Encrypt(b[n:])
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if n+len(secret) != size {
		return nil, fmt.Errorf("encrypt: %d bytes, want %d", n+len(secret), size)
	}
	return append(b[:n:n], secret...), nil
}

var errForged = errors.New("a message of the server is not sealed as agreed: somebody else may have sent it, or it was damaged on the way")

// unseal checks what seal does, and returns what is behind the n bytes of the
// head: the sequence header and the body.
func unseal(b []byte, n int, a *uapolicy.EncryptionAlgorithm, sign, encrypt bool) ([]byte, error) {
	if sign && encrypt {
		open, err := a.Decrypt(b[n:])
		if err != nil {
			return nil, errForged
		}
		b = append(b[:n:n], open...)
	}
	if sign {
		end := len(b) - a.RemoteSignatureLength()
		if end < n || a.VerifySignature(b[:end:end], b[end:]) != nil {
			return nil, errForged
		}
		b = b[:end]
	}
	b = b[n:]
	if sign && encrypt {
		padding, more := 0, 1
		if a.SignatureLength() > 256 && len(b) > 1 {
			padding, more = int(b[len(b)-1])<<8|int(b[len(b)-2]), 2
		} else if len(b) > 0 {
			padding = int(b[len(b)-1])
		}
		if padding+more > len(b) {
			return nil, errForged
		}
		b = b[:len(b)-padding-more]
	}
	if len(b) < sequenceHead {
		return nil, errForged
	}
	return b, nil
}

// room is how long the body of a chunk may be that has size bytes in all, with a
// head of n bytes.
func room(size, n int, a *uapolicy.EncryptionAlgorithm, sign, encrypt bool) int {
	size -= n
	if encrypt {
		size = size/a.BlockSize()*a.PlaintextBlockSize() - 1
	}
	if sign {
		size -= a.SignatureLength()
	}
	return size - sequenceHead
}

// thumbprint names a certificate in the head of an OpenSecureChannel (OPC
// 10000-6, 6.7.2.3); nothing rests on it.
func thumbprint(cert []byte) []byte {
	if cert == nil {
		return nil
	}
	return uapolicy.Thumbprint(cert)
}

// openHead is the head of an OpenSecureChannel.
func openHead(channel uint32, s *security) []byte {
	b := binary.LittleEndian.AppendUint32(startChunk("OPN", final), channel)
	for _, text := range [][]byte{[]byte(s.policy), s.own.cert, thumbprint(s.server)} {
		if text == nil {
			b = binary.LittleEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	return b
}

// checkOpenHead returns the length of the head of the server's answer, if that is
// of the policy and the certificate that were agreed: whoever answers must not
// choose another.
func checkOpenHead(b []byte, s *security) (n int, err error) {
	n = chunkHead + 4
	var fields [3][]byte
	for i := range fields {
		if len(b) < n+4 {
			return 0, errTruncated
		}
		size := binary.LittleEndian.Uint32(b[n:])
		n += 4
		if size == 0xffffffff {
			continue
		}
		if uint64(size) > uint64(len(b)-n) {
			return 0, errTruncated
		}
		fields[i] = b[n : n+int(size)]
		n += int(size)
	}
	if string(fields[0]) != s.policy {
		return 0, fmt.Errorf("the server opens the channel with the policy %q, and %q was agreed", shortened(string(fields[0])), s.policy)
	}
	if !s.signs() {
		return n, nil
	}
	if !bytes.HasPrefix(fields[1], s.server) { // a chain begins with it
		return 0, errors.New("the server opens the channel with another certificate than the one in its list of endpoints")
	}
	if !bytes.Equal(fields[2], thumbprint(s.own.cert)) {
		return 0, errors.New("the server answers somebody with another certificate")
	}
	return n, nil
}

// shortened bounds a text of a server's that is shown.
func shortened(text string) string {
	const most = 120
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

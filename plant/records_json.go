package plant

import "strconv"

// AppendJSON appends s as JSON, as Dosing.AppendJSON does.
func (s *Serial) AppendJSON(dst []byte) []byte {
	dst = s.Head.append(dst)
	dst = AppendJSONString(append(dst, `,"action":`...), s.Action)
	dst = AppendJSONString(append(dst, `,"serial":`...), s.Serial)
	dst = appendText(dst, `,"old_serial":`, s.OldSerial)
	dst = appendText(dst, `,"sku":`, s.SKU)
	dst = appendText(dst, `,"station":`, s.Station)
	if s.Pass != 0 {
		dst = strconv.AppendInt(append(dst, `,"pass":`...), int64(s.Pass), 10)
	}
	return append(appendFlagged(dst, s.Flagged), '}')
}

// AppendJSON appends a as JSON, as Dosing.AppendJSON does.
func (a *ItemAttach) AppendJSON(dst []byte) []byte {
	dst = a.Head.append(dst)
	dst = AppendJSONString(append(dst, `,"action":`...), a.Action)
	dst = appendText(dst, `,"sku":`, a.SKU)
	dst = AppendJSONString(append(dst, `,"serial":`...), a.Serial)
	i := &a.Item
	dst = AppendJSONString(append(dst, `,"item":{"sku":`...), i.SKU)
	dst = appendAmount(dst, `,"quantity":`, i.Quantity)
	dst = appendText(dst, `,"unit":`, i.Unit)
	dst = appendText(dst, `,"serial":`, i.Serial)
	dst = appendText(dst, `,"order":`, i.Order)
	dst = append(appendText(dst, `,"lot":`, i.Lot), '}')
	if a.AttachID != 0 {
		dst = strconv.AppendUint(append(dst, `,"attach_id":`...), a.AttachID, 10)
	}
	return append(appendFlagged(dst, a.Flagged), '}')
}

func appendFlagged(dst []byte, flagged []string) []byte {
	for i, what := range flagged {
		dst = AppendJSONString(append(dst, [...]string{`,"flagged":[`, `,`}[min(i, 1)]...), what)
	}
	return appendFlag(dst, `]`, len(flagged) > 0)
}

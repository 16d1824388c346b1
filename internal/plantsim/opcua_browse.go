package plantsim

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
)

// The nodes of an OPCUA server lie in folders by the points of their names:
// "FillerDB.Count.Total" is in the folder FillerDB.Count, which is in FillerDB,
// which is in Objects. With OPCUAOptions.Circles each folder has a way back to
// Objects as well.

// childrenOf returns what is in a folder, "" for Objects; s.mu is held.
func (s *OPCUA) childrenOf(folder string) (names []string) {
	prefix := ""
	if folder != "" {
		prefix = folder + "."
	}
	for name := range s.nodes.byName {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			names = append(names, prefix+first)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// references returns what is below a node; ok is false for one that is not there.
func (s *OPCUA) references(n *ua.NodeID) (refs []*ua.ReferenceDescription, ok bool) {
	folder, ours := own(n)
	switch {
	case !ours && n.Namespace() == 0 && n.IntID() == id.ObjectsFolder:
		folder = ""
		refs = append(refs, reference(ua.NewNumericNodeID(0, id.Server), "Server", ua.NodeClassObject))
	case !ours:
		return nil, true // the standard's nodes have nothing below them here
	case len(s.childrenOf(folder)) == 0 && s.nodes.byName[folder] == nil:
		return nil, false
	}
	for _, name := range s.childrenOf(folder) {
		class := ua.NodeClassObject
		if s.nodes.byName[name] != nil {
			class = ua.NodeClassVariable
		}
		refs = append(refs, reference(ua.NewStringNodeID(namespaceIndex, name), name[strings.LastIndexByte(name, '.')+1:], class))
	}
	if s.options.Circles && folder != "" {
		refs = append(refs, reference(ua.NewNumericNodeID(0, id.ObjectsFolder), "Objects", ua.NodeClassObject))
	}
	return refs, true
}

func reference(n *ua.NodeID, name string, class ua.NodeClass) *ua.ReferenceDescription {
	return &ua.ReferenceDescription{
		ReferenceTypeID: ua.NewNumericNodeID(0, id.Organizes), IsForward: true, NodeID: &ua.ExpandedNodeID{NodeID: n},
		BrowseName: &ua.QualifiedName{NamespaceIndex: n.Namespace(), Name: name}, DisplayName: ua.NewLocalizedText(name),
		NodeClass: class, TypeDefinition: &ua.ExpandedNodeID{NodeID: ua.NewTwoByteNodeID(0)},
	}
}

// browse answers with a page of references for each node.
func (s *OPCUA) browse(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.BrowseRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(r) {
		return nil, ua.StatusBadSessionIDInvalid
	}
	if limit := s.options.MaxNodesPerBrowse; limit > 0 && len(req.NodesToBrowse) > int(limit) {
		s.tooMany.Add(1)
		return nil, ua.StatusBadTooManyOperations
	}
	results := make([]*ua.BrowseResult, len(req.NodesToBrowse))
	for i, n := range req.NodesToBrowse {
		results[i] = s.page(n.NodeID, 0)
	}
	return &ua.BrowseResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

// page returns the references of a node from one on.
func (s *OPCUA) page(n *ua.NodeID, from int) *ua.BrowseResult {
	refs, ok := s.references(n)
	if !ok {
		return &ua.BrowseResult{StatusCode: ua.StatusBadNodeIDUnknown}
	}
	result := &ua.BrowseResult{References: refs[min(from, len(refs)):]}
	if page := s.options.BrowsePage; page > 0 && len(result.References) > page {
		result.References = result.References[:page]
		result.ContinuationPoint = append(binary.BigEndian.AppendUint32(nil, uint32(from+page)), n.String()...)
	}
	return result
}

func (s *OPCUA) browseNext(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.BrowseNextRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]*ua.BrowseResult, len(req.ContinuationPoints))
	for i, p := range req.ContinuationPoints {
		results[i] = &ua.BrowseResult{StatusCode: ua.StatusBadContinuationPointInvalid}
		if len(p) < 4 || req.ReleaseContinuationPoints {
			continue
		}
		if n, err := ua.ParseNodeID(string(p[4:])); err == nil {
			results[i] = s.page(n, int(binary.BigEndian.Uint32(p)))
		}
	}
	return &ua.BrowseNextResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

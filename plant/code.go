package plant

// CodeKind says what a code of the plant names. The words are those of a config's
// code tables.
type CodeKind string

// The kinds of codes that systems may name differently.
const (
	CodeMachine      CodeKind = "machine"
	CodeDowntimeType CodeKind = "downtime_type"
	CodeWaste        CodeKind = "waste"
	CodeParameter    CodeKind = "parameter"
	CodeComponent    CodeKind = "component"
	CodeArticle      CodeKind = "article"
	CodeWorkCenter   CodeKind = "work_center"
	CodeOperation    CodeKind = "operation"
)

// CodeKinds returns every kind, in the order in which people are shown them.
func CodeKinds() []CodeKind {
	return []CodeKind{CodeMachine, CodeDowntimeType, CodeWaste, CodeParameter, CodeComponent, CodeArticle, CodeWorkCenter, CodeOperation}
}

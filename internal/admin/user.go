package admin

import "os/user"

// userName writes a user's number with its name, where the system knows it.
func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil && u.Username != "" {
		return "uid " + uid + " (" + u.Username + ")"
	}
	return "uid " + uid
}

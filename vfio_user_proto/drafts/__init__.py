"""Generated declarations of protocols beside vfio-user: drafts, and the part of KVM that this toolkit uses."""

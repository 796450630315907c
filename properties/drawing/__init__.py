"""Where cases come from: shapes, values, layouts, and what is wrong, extreme or on a kink on purpose."""

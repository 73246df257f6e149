--! error E0101 at 4:1
--! hint SELECT

SELEC a FROM t;

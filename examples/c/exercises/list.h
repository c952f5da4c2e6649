int length(void);

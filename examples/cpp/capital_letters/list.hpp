struct List {
    int length() const;
};

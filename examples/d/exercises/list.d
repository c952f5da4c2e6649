module list;

int length()
{
    return 3;
}
